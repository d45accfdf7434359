"""What an ad's place is worth and what a click on it costs: second prices, truthful payments, budgets."""
