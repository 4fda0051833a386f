"""The framework of the product. Its version has its one home here; compose and the chart name it too."""

__version__ = "0.1.0"
