"""The training room: one trainer, its optimizer, its progress, and the folder a run leaves."""
