"""Background work: kept callbacks become transitions and replies, accepted messages go to the gateway."""
