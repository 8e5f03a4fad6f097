"""Messages to the gateway: SOAP and REST, and what an answer means."""
