<?php

class twinmail extends rcube_plugin
{
    public function init()
    {
    }
}
