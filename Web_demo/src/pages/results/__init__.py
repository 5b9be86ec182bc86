"""The page Results: run folders as tables and charts."""
