"""The console: one live page over the same API that advertisers script. No build, no framework."""
