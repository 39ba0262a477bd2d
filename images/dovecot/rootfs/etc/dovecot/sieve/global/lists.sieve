# Puts the mail of each mailing list (RFC 2919) into a folder of its own below Lists.
require ["fileinto", "mailbox", "variables"];
if header :matches "List-Id" "*<*>*" {
    set :lower "list" "${2}";
    fileinto :create "Lists/${list}";
    stop;
}
