"""Distillers to compare FOSTER with, behind the same interface."""
