"""What every stage needs while it runs: files, locks, ledgers, processes, signals, errors."""
