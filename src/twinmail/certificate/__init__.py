"""Certificates of servers: got in time from a certification authority, installed whole, and watched."""
