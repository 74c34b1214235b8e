"""What tests are made with: event builders and a clock that stands still."""
