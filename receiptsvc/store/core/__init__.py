"""What every table shares: the engine, the models, bulk writes, paging, audits, notifications."""
