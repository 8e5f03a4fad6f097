"""What happens after the answer: kept callbacks become transitions, accepted messages go to the gateway."""
