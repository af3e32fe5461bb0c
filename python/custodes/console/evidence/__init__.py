"""Evidence and disclosures, exported from the console and the API."""
