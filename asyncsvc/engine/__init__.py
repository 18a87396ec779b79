"""The engine: takes tasks in, orders them, runs them, ends them."""
