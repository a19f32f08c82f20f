"""Reading foreign weights and the rule tables that convert them in both directions."""
