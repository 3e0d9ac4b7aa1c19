"""What a run is: identity, folder, lock, record, resume. Serves commands and reports; imports nothing that trains."""
