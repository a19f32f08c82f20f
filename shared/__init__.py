"""What every paper reuses: transformer core, data modules, optimisation, conversion rules, run folders."""
