"""The web floor: parse, call, shape. It holds no state of its own."""
