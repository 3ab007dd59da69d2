"""The application's own tests need the changed application: ``test_change.py`` runs them."""

collect_ignore = ["application"]
