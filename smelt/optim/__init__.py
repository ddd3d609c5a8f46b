"""What moves the weights: parameter groups, Muon, learning-rate schedules. AdamW is torch's fused one."""
