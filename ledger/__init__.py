"""What happened and what it cost: segment log, budgets, recorder, analytics store, reports."""
