"""`penstock twin report`: two policies side by side on one page, in points, hours, kilowatt-hours and euro a year."""
