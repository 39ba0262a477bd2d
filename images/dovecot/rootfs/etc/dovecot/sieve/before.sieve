# Junk goes to Junk, whatever the user's own script would do with it: no answer, no redirect, no other folder.
require "include";
include :global "junk";
