"""Stands in for cinder, of which the peers need only the exceptions."""
