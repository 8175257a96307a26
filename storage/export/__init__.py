"""Exports: examples to the files of a trainer's format."""

from storage.export.write import ABOUT, CHOICES, Exported, export, export_report

__all__ = ["ABOUT", "CHOICES", "Exported", "export", "export_report"]
