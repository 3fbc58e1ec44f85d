"""The command `spec-diff`: one file a verb, printing and exit codes only.

Depends on lower floors, and loads them when a verb runs, not before: so
`spec-diff --help` answers at once.
"""
