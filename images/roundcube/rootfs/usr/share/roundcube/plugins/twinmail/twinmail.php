<?php

/*
 * What twinmail asks of Roundcube beyond its settings: who may write as whom, how often one may try to log in,
 * and what a page may load and run. The rules are in lib/; here they are hung into Roundcube.
 */

require_once __DIR__ . '/lib/attempts.php';
require_once __DIR__ . '/lib/first_login.php';
require_once __DIR__ . '/lib/owners.php';
require_once __DIR__ . '/lib/identities.php';
require_once __DIR__ . '/lib/policy.php';

class twinmail extends rcube_plugin
{
    private const OWNERS = '/etc/twinmail/identities.json';
    private const ATTEMPTS = '/var/lib/twinmail/logins';

    private twinmail_attempts $attempts;
    /** Kept until the request ends. */
    private ?twinmail_first_login $first_login = null;
    private twinmail_policy $policy;
    private bool $refused = false;

    public function init()
    {
        $this->attempts = new twinmail_attempts(self::ATTEMPTS);
        $this->policy = new twinmail_policy();
        $this->add_texts('localization/');
        $hooks = [
            'startup', 'authenticate', 'login_failed', 'login_after', 'user_create',
            'identity_create', 'identity_update', 'identity_delete', 'message_before_send',
            'check_recent', 'message_part_before', 'message_part_after', 'send_page',
        ];
        foreach ($hooks as $hook) {
            $this->add_hook($hook, [$this, $hook]);
        }
        // Last of all, since Roundcube gives what it hands out a policy of its own.
        header_register_callback([$this->policy, 'send']);
        $rcmail = rcmail::get_instance();
        if ($rcmail->output instanceof rcmail_output_html && !$rcmail->output instanceof rcmail_html_page) {
            $this->include_script('twinmail.js');
        }
    }

    // Logging in

    public function startup($args)
    {
        // The web server counts logins by their address. Roundcube would take the task from a form or a cookie.
        if ($args['task'] === 'login' && $args['action'] === 'login' && ($_GET['_task'] ?? null) !== 'login') {
            http_response_code(400);
            exit;
        }
        return $args;
    }

    public function authenticate($args)
    {
        $mailbox = $this->owners()->mailbox_of($args['user']);
        $seconds = $this->attempts->seconds_to_wait($mailbox, $_SERVER['REMOTE_ADDR'] ?? '');
        if ($seconds > 0) {
            $this->refused = true;
            $minutes = (string) ceil($seconds / 60);
            $text = $this->gettext(['name' => 'toomanyattempts', 'vars' => ['minutes' => $minutes]]);
            return ['abort' => true, 'error' => $text] + $args;
        }
        if ($this->owners()->knows($mailbox)) {
            $this->first_login = new twinmail_first_login(self::ATTEMPTS, rcmail::get_instance()->get_dbh());
            $this->first_login->take_turn($mailbox);
        }
        return ['user' => $mailbox] + $args;
    }

    public function login_failed($args)
    {
        // Only what was a password: not a form that expired, nor a mail server that is away or cannot say.
        $reason = (string) rcmail::get_instance()->get_storage()->get_error_str();
        if (
            !$this->refused
            && in_array($args['code'], [null, rcmail::ERROR_RATE_LIMIT], true)
            && stripos($reason, 'temporary') === false
        ) {
            $mailbox = $this->owners()->mailbox_of((string) $args['user']);
            $this->attempts->failed($mailbox, $_SERVER['REMOTE_ADDR'] ?? '');
        }
        return $args;
    }

    public function login_after($args)
    {
        $user = rcmail::get_instance()->user;
        $this->attempts->succeeded($user->get_username(), $_SERVER['REMOTE_ADDR'] ?? '');
        (new twinmail_identities($user))->follow($this->owners());
        return $args;
    }

    // Writing as oneself

    public function user_create($args)
    {
        $owners = $this->owners();
        $addresses = $owners->addresses_of($args['user']);
        if ($addresses) {
            $args['user_name'] = $owners->name_of($args['user']);
            $args['user_email'] = $addresses[0];
            $args['email_list'] = $addresses;
        }
        return $args;
    }

    public function identity_create($args)
    {
        return $this->own($args['record']['email'] ?? '') || !empty($args['login']) ? $args : $this->foreign($args);
    }

    public function identity_update($args)
    {
        return $this->own($args['record']['email'] ?? '') ? $args : $this->foreign($args);
    }

    public function identity_delete($args)
    {
        $identities = new twinmail_identities(rcmail::get_instance()->user);
        if ($identities->is_last((string) $args['id'], $this->owners())) {
            return ['abort' => true, 'result' => false, 'message' => $this->gettext('addressstays')] + $args;
        }
        return $args;
    }

    public function message_before_send($args)
    {
        $headers = $args['message']->headers();
        $senders = [(string) $args['from']];
        foreach (['From', 'Sender', 'Resent-From', 'Resent-Sender'] as $name) {
            foreach ((array) ($headers[$name] ?? []) as $value) {
                array_push($senders, ...twinmail_owners::addresses_in((string) $value));
            }
        }
        $from = twinmail_owners::addresses_in((string) ($headers['From'] ?? ''));
        foreach ($senders as $sender) {
            if (count($from) !== 1 || !$this->own($sender)) {
                $text = $this->gettext(['name' => 'notyours', 'vars' => ['address' => rcube::Q($sender)]]);
                return ['abort' => true, 'error' => $text, 'result' => false] + $args;
            }
        }
        return $args;
    }

    private function own(string $address): bool
    {
        $user = rcmail::get_instance()->user;
        return $user !== null && $this->owners()->is_own((string) $user->get_username(), $address);
    }

    private function foreign(array $args): array
    {
        return ['abort' => true, 'result' => false, 'message' => $this->gettext('onlyyourown')] + $args;
    }

    private function owners(): twinmail_owners
    {
        return twinmail_owners::load(self::OWNERS);
    }

    // Reading

    public function check_recent($args)
    {
        // Roundcube remembers nothing of a folder that it showed empty, and then takes the first message for seen.
        $folder = rcmail::get_instance()->get_storage()->get_folder();
        $_SESSION['folders'][$folder] ??= ['cnt' => 0, 'maxuid' => 0];
        return $args;
    }

    // What a page may load and run

    public function message_part_before($args)
    {
        $this->policy->remote = $this->policy->remote || !empty($args['safe']);
        return $args;
    }

    public function message_part_after($args)
    {
        if (in_array(rcmail::get_instance()->action, ['show', 'preview', 'print'], true)) {
            $args['body'] = $this->policy->fence($args['body']);
        }
        return $args;
    }

    public function send_page($args)
    {
        $rcmail = rcmail::get_instance();
        $args['content'] = $rcmail->output instanceof rcmail_html_page
            ? $this->policy->attachment($args['content'], $rcmail)
            : $this->policy->page($args['content'], $rcmail->task, $rcmail->action);
        return $args;
    }
}
