"""openclaw"""
