"""The op under the names that other code bases import."""
