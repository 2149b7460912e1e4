"""What a row has to be: named rules with reasons, quarantine, and how much may be wrong."""
