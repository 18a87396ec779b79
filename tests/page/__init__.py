"""Tests of the web page: its files by themselves, and the page in a browser over a real service."""
