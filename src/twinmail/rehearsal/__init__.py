"""The first day of a system, played on one machine with the code, the images and the files of production."""
