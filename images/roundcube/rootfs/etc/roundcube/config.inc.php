<?php

/*
 * Roundcube for twinmail. What differs between two machines is in /etc/twinmail/webmail.json: data, no code.
 */

$site = json_decode((string) file_get_contents('/etc/twinmail/webmail.json'), true, 16, JSON_THROW_ON_ERROR);
$sender = json_decode((string) file_get_contents('/etc/twinmail/smtp.json'), true, 16, JSON_THROW_ON_ERROR);

// Every connection is inside TLS, to the name and the authority that the settings say.
$tls = static fn (array $service): array => ['ssl' => [
    'verify_peer' => true,
    'verify_peer_name' => true,
    'peer_name' => $service['name'],
    'cafile' => $service['ca'],
    'crypto_method' => STREAM_CRYPTO_METHOD_TLSv1_2_CLIENT | STREAM_CRYPTO_METHOD_TLSv1_3_CLIENT,
]];

$config = [];

// The volume
$config['db_dsnw'] = 'sqlite:////var/lib/twinmail/roundcube.db?mode=0600';
// Its own, made at the first start, unless it was given one.
$key = is_file('/etc/twinmail/des_key') ? '/etc/twinmail/des_key' : '/var/lib/twinmail/des_key';
$config['des_key'] = trim((string) file_get_contents($key));
$config['cipher_method'] = 'AES-256-CBC';
$config['temp_dir'] = '/var/lib/twinmail/temp/';
$config['temp_dir_ttl'] = '12h';
$config['log_dir'] = '/var/lib/twinmail/temp/';
$config['log_driver'] = 'stdout';
$config['log_logins'] = true;
$config['log_session_id'] = 0;

// IMAP and ManageSieve
$config['imap_host'] = $site['imap']['host'];
$config['imap_conn_options'] = $tls($site['imap']);
$config['imap_auth_type'] = 'PLAIN';
$config['imap_timeout'] = 30;
$config['drafts_mbox'] = 'Drafts';
$config['junk_mbox'] = 'Junk';
$config['sent_mbox'] = 'Sent';
$config['trash_mbox'] = 'Trash';
$config['archive_mbox'] = 'Archive';
$config['archive_type'] = 'year';
$config['managesieve_host'] = $site['sieve']['host'];
$config['managesieve_conn_options'] = $tls($site['sieve']);
$config['managesieve_auth_type'] = 'PLAIN';
$config['managesieve_default'] = null;
$config['managesieve_script_name'] = 'roundcube';
$config['managesieve_vacation'] = 1;
$config['managesieve_vacation_interval'] = 7;
$config['managesieve_vacation_addresses_init'] = true;
$config['managesieve_vacation_from_init'] = true;

// Sending: SES, as the site. Whose address a message may carry is the plugin's to say.
$config['smtp_host'] = $site['smtp']['host'];
$config['smtp_conn_options'] = $tls($site['smtp']);
$config['smtp_user'] = $sender['user'];
$config['smtp_pass'] = $sender['password'];
$config['smtp_auth_type'] = 'PLAIN';
// SES scans a message before it answers; to give up early would have it sent twice. nginx waits 180 s.
$config['smtp_timeout'] = 170;
$config['smtp_log'] = false;
$config['identities_level'] = 1;
// Sending a message on unchanged would carry the address of its author.
$config['disabled_actions'] = ['mail.bounce'];
$config['max_message_size'] = '40M';
$config['max_recipients'] = 50;

// Sessions
$config['use_https'] = true;
$config['session_samesite'] = 'Lax';
$config['session_lifetime'] = 60;
$config['login_rate_limit'] = 5;
$config['login_autocomplete'] = 2;
$config['login_username_maxlen'] = 254;
$config['trusted_host_patterns'] = array_map(
    static fn (string $host): string => '^' . preg_quote($host) . '$',
    $site['hosts'],
);
$config['x_frame_options'] = 'sameorigin';
$config['enable_installer'] = false;

// What people see
$config['product_name'] = $site['product'];
$config['display_product_info'] = 0;
$config['useragent'] = 'Roundcube Webmail';
$config['skin'] = 'elastic';
$config['skins_allowed'] = ['elastic'];
$config['plugins'] = [
    'twinmail', 'archive', 'attachment_reminder', 'hide_blockquote', 'managesieve', 'markasjunk',
    'newmail_notifier', 'vcard_attachments', 'zipdownload',
];
$config['markasjunk_spam_mbox'] = 'Junk';
$config['markasjunk_ham_mbox'] = 'INBOX';
$config['markasjunk_move_spam'] = true;
$config['markasjunk_move_ham'] = true;
$config['markasjunk_read_spam'] = true;
$config['refresh_interval'] = 10;
$config['min_refresh_interval'] = 10;
$config['show_images'] = 0;
$config['htmleditor'] = 4;
$config['reply_mode'] = 1;
$config['draft_autosave'] = 60;
$config['mime_param_folding'] = 0;
$config['enable_spellcheck'] = false;
$config['email_dns_check'] = false;
