"""What all wings of the store share: engine, tables, bulk statements, pagination, audits, notifications."""
