"""Suites: what a model does, asked with one set of questions each. A file a suite, found by its
name: ``xstest.py`` is what ``backflip evaluate`` calls ``suite=xstest``.
"""
