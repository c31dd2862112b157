"""Many trainings over a grid: does the last hidden dimension predict generalisation?"""
