"""What a check of an environment says: which checks there are, and the report. `verifiers.checking` makes them, the Hub
keeps and shows what came of them; neither needs the other for it.
"""
