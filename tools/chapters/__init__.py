"""Runs the chapters, compares them with what is stored, reads their source for faults."""
