// The text under edit may be a stranger's: nothing in the editor's frame runs.
window.rcmail_editor_settings = $.extend(window.rcmail_editor_settings, {
  content_security_policy: "script-src 'none'; object-src 'none'; form-action 'none'"
});
