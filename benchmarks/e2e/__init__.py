"""`make bench-e2e`: what a receipt costs through the whole stack, beside another commit and beside a usual stack."""
