"""Records of runs made into tables, plots, listings and one HTML page. Nothing here trains or imports torch."""
