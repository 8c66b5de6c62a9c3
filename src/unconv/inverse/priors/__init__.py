"""What is known of the truth beforehand: penalties and denoisers."""
