"""What is learned: one net, one loss, one step, and the evidence of how well."""
