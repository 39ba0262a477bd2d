# Puts a message into Junk that SES's verdicts, or what the user did with this sender before, say is junk.
#
# The syncer writes what they say into the first line of the copy that scripts see. A line of that name in the
# message itself comes later and does not count.
require ["fileinto", "index"];
if header :index 1 :is "X-Twinmail-Folder" "Junk" {
    fileinto "Junk";
    stop;
}
