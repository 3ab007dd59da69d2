"""A small application and its own tests, written as its author would: see test_testing_app.py."""
