"""The SES edge: what SES's inbound MX and SMTP endpoint do, in front of LocalStack, as a process of its own.

It reads the active receipt rule set through the SES API and performs its rules on every message. The receipt
is decided in pure modules (`receipt`, `verdict`, `headers`, `event`, `wire`); `actions` has the effects.
"""
