"""The guards under attack: every case is judged by both interpreters."""
