<?php

/**
 * What a page may load and run (Content Security Policy Level 3).
 *
 * Scripts run only with the nonce of the response, which Roundcube's own get and nothing out of a message does:
 * message bodies are fenced with a mark that nobody can guess, and what is inside of the fence is left alone.
 * Pages that show a message also name every inline handler by its hash. Roundcube evaluates what its own
 * requests return, hence 'unsafe-eval'; and messages live from inline styles.
 */
final class twinmail_policy
{
    /** For what is no page: answers to requests, and attachments as they are. */
    private const DATA = [
        "default-src 'none'",
        "img-src 'self'",
        "media-src 'self'",
        // Of the browser, around a picture that it shows on its own.
        "style-src 'unsafe-inline'",
        "frame-ancestors 'self'",
        "base-uri 'none'",
        "form-action 'none'",
    ];

    /** What Roundcube makes of a mail address in a text; the only handler that may come out of a body. */
    private const WRITE_TO = "/^return rcmail\.command\('compose','[^'\\\\<>\"]*',this\)$/D";

    /** What the skin's script puts on the button "Mail" beside a message that has a page of its own: back to its list. */
    private const BACK = "return rcmail.command('list','',this,event);";

    private const SCRIPT = '~<script\b.*?</script\s*>~is';
    // Tags, not text that looks like one: a subject may say onclick='…'.
    private const TAG = '~<[a-z][a-z0-9]*+\s((?:[^"\'<>]++|"[^"]*+"|\'[^\']*+\')*+)>~i';
    private const ATTRIBUTE = '~([^\s"\'=<>/]++)\s*+=\s*+(?:"([^"]*+)"|\'([^\']*+)\')~';
    private const WITH_BODY = ['show', 'preview', 'print'];
    private const WITH_EDITOR = ['compose', 'edit-identity', 'add-identity', 'edit-response', 'add-response'];

    /** Where Roundcube's answer to a form comes from before it is there; a script in name only. */
    private const EMPTY_FRAME = 'javascript:false;';

    /** Whether the user asked for pictures from elsewhere. */
    public bool $remote = false;

    /** @var list<string> */
    private array $directives = self::DATA;

    private readonly string $nonce;
    private readonly string $fence;

    public function __construct()
    {
        $this->nonce = base64_encode(random_bytes(18));
        $this->fence = bin2hex(random_bytes(18));
    }

    public function fence(string $body): string
    {
        // Elements with these names would stand in for the document's own functions.
        $body = preg_replace('/(<(?:img|form|object|embed|iframe)\b[^>]*?)\sname="[^"]*"/i', '$1', $body) ?? $body;
        return "<!--$this->fence-->$body<!--$this->fence-->";
    }

    public function send(): void
    {
        header('Content-Security-Policy: ' . implode('; ', $this->directives));
    }

    /** The page *$content* with its nonces; from now on the policy is this page's. */
    public function page(string $content, string $task, string $action): string
    {
        // Ours and the message's take turns.
        $pieces = explode("<!--$this->fence-->", $content);
        if (count($pieces) % 2 === 0) {
            throw new LogicException('half a fence around a message: something cut the page');
        }
        $handlers = [];
        foreach ($pieces as $number => $piece) {
            $ours = $number % 2 === 0;
            if ($ours) {
                $pieces[$number] = preg_replace('/<script\b/i', "<script nonce=\"$this->nonce\"", $piece);
            }
            foreach (self::handlers($piece) as $handler) {
                if ($ours || preg_match(self::WRITE_TO, $handler)) {
                    $handlers[$handler] = true;
                }
            }
        }
        $shows = $task === 'mail' && in_array($action, self::WITH_BODY, true);
        if ($action === 'show') {
            $handlers[self::BACK] = true;
        }
        $edits = in_array($action, self::WITH_EDITOR, true);
        $attributes = $shows ? self::hashes(array_keys($handlers)) : "'unsafe-inline'";
        $images = "'self' data: blob:" . ($this->remote || $edits ? ' https:' : '');
        $this->directives = [
            "default-src 'none'",
            "script-src 'nonce-$this->nonce' 'unsafe-eval'",
            "script-src-elem 'nonce-$this->nonce'" . ($edits ? ' ' . self::editor() : ''),
            "script-src-attr $attributes",
            "style-src 'self' 'unsafe-inline'",
            "img-src $images",
            "font-src 'self'",
            "media-src 'self'",
            "connect-src 'self'",
            "frame-src 'self'",
            "manifest-src 'self'",
            "frame-ancestors 'self'",
            "base-uri 'none'",
            "form-action 'self'",
            'upgrade-insecure-requests',
        ];
        return implode('', $pieces);
    }

    /** An HTML attachment as a page of its own: nothing runs but the button above it. */
    public function attachment(string $content, rcmail $rcmail): string
    {
        $buttons = [];
        foreach (['_safe', '_nocheck', '_download'] as $name) {
            $buttons[] = "location.href = '" . $rcmail->url(array_merge($_GET, [$name => 1])) . "'";
        }
        $images = "'self' data:" . (empty($_GET['_safe']) ? '' : ' https:');
        $this->directives = [
            "default-src 'none'",
            'script-src-attr ' . self::hashes($buttons),
            "style-src 'self' 'unsafe-inline'",
            "img-src $images",
            "font-src 'self'",
            "media-src 'self'",
            "frame-ancestors 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            'upgrade-insecure-requests',
        ];
        return (string) preg_replace(self::SCRIPT, '', $content);
    }

    /**
     * The inline handlers in a piece of a page.
     *
     * @return list<string>
     */
    private static function handlers(string $html): array
    {
        preg_match_all(self::TAG, (string) preg_replace(self::SCRIPT, '', $html), $tags);
        $found = [];
        foreach ($tags[1] as $tag) {
            preg_match_all(self::ATTRIBUTE, $tag, $attributes, PREG_SET_ORDER);
            foreach ($attributes as $one) {
                if (stripos($one[1], 'on') === 0) {
                    $found[] = html_entity_decode($one[2] . ($one[3] ?? ''), ENT_QUOTES | ENT_HTML5);
                }
            }
        }
        return $found;
    }

    /** @param list<string> $handlers */
    private static function hashes(array $handlers): string
    {
        $hashes = array_map(
            static fn (string $one): string => "'sha256-" . base64_encode(hash('sha256', $one, true)) . "'",
            $handlers,
        );
        return $hashes ? "'unsafe-hashes' " . implode(' ', $hashes) : "'none'";
    }

    /** The editor loads its parts by itself, from this folder of ours; its form is sent from an empty frame. */
    private static function editor(): string
    {
        $host = preg_replace('/[^A-Za-z0-9.:\[\]-]/', '', $_SERVER['HTTP_HOST'] ?? '');
        return "https://$host/program/js/tinymce/ " . self::hashes([self::EMPTY_FRAME]);
    }
}
