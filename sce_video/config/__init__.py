"""A run's configuration: one YAML file, frozen and checked.

Sections are in ``sections.py``, what a task has of them in ``tasks.py``.
"""
