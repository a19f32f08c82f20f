"""Parameter groups, schedules and weight averaging."""
