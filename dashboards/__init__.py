"""See it: figures and pages drawn from a sweep's points. No ray, no torch."""
