"""Taking a Hub's records and blobs elsewhere: into one file and out of it, or into another database and store."""
