"""Providers: how they are spoken to, and how much they allow."""
