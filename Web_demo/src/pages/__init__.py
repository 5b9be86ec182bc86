"""The pages of the demo, a package each.

Streamlit would take modules that are directly in this folder for pages of its own.
"""
