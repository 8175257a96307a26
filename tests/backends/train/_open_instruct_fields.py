"""The keys that open-instruct's two programs know, from the argument classes in its source; its parser refuses any other.

It is on no package index and imports deepspeed and CUDA kernels, so its classes cannot be asked here.
"""


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: `FlatArguments` of https://github.com/allenai/open-instruct/blob/afe4bb32ea67834271d1e66b5ecb62a78a6d9565/open_instruct/finetune.py
FINETUNE = _names(
    """
    exp_name do_not_randomize_output_dir model_name_or_path config_name use_flash_attn model_revision
    additional_model_arguments low_cpu_mem_usage dataset_name dataset_mixer dataset_mixer_list dataset_mixer_list_splits
    dataset_transform_fn dataset_target_columns dataset_cache_mode dataset_local_cache_dir dataset_config_hash
    dataset_skip_cache dataset_mix_dir dataset_config_name max_train_samples preprocessing_num_workers max_seq_length
    overwrite_cache clip_grad_norm gradient_accumulation_steps learning_rate logging_steps lora_rank lora_alpha lora_dropout
    lr_scheduler_type num_train_epochs output_dir per_device_train_batch_size use_lora use_qlora use_8bit_optimizer
    warmup_ratio final_lr_ratio weight_decay timeout resume_from_checkpoint report_to save_to_hub gradient_checkpointing
    use_liger_kernel max_train_steps seed checkpointing_steps keep_last_n_checkpoints fused_optimizer load_balancing_loss
    load_balancing_weight clean_checkpoints_at_end with_tracking wandb_project_name wandb_entity push_to_hub hf_entity
    hf_repo_id hf_repo_revision hf_repo_url try_launch_beaker_eval_jobs hf_metadata_dataset cache_dataset_only
    add_seed_and_date_to_exp_name try_auto_save_to_beaker gs_bucket_path oe_eval_tasks oe_eval_max_length sync_each_batch
    packing verbose
    """
)

#: `ExperimentConfig` and what it inherits, of
#: https://github.com/allenai/open-instruct/blob/008fc86ddf7c2e1df8d27f1119b14407d3bc6a35/open_instruct/dpo_utils.py
DPO = _names(
    """
    exp_name run_name seed add_seed_and_date_to_exp_name model_name_or_path use_flash_attn attn_backend model_revision
    low_cpu_mem_usage beta loss_type gamma_beta_ratio label_smoothing load_balancing_loss load_balancing_weight
    concatenated_forward packing num_epochs per_device_train_batch_size gradient_accumulation_steps learning_rate warmup_ratio
    weight_decay max_grad_norm max_seq_length lr_scheduler_type max_train_steps gradient_checkpointing use_8bit_optimizer
    dpo_use_paged_optimizer fused_optimizer tensor_parallel_degree context_parallel_degree pipeline_parallel_degree
    cache_logprobs_only mixer_list mixer_list_splits transform_fn target_columns cache_mode local_cache_dir skip_cache
    cache_dataset_only config_hash use_lora lora_rank lora_alpha lora_dropout logging_steps with_tracking wandb_project
    wandb_entity report_to push_to_hub hf_entity hf_repo_id hf_repo_revision hf_repo_url output_dir checkpointing_steps
    keep_last_n_checkpoints resume_from_checkpoint try_launch_beaker_eval_jobs try_auto_save_to_beaker gs_bucket_path
    oe_eval_tasks oe_eval_max_length oe_eval_gpu_multiplier eval_workspace eval_priority do_not_randomize_output_dir
    config_name additional_model_arguments sync_each_batch dataset_name dataset_mixer dataset_mix_dir dataset_config_name
    max_train_samples preprocessing_num_workers overwrite_cache use_qlora timeout save_to_hub use_liger_kernel
    hf_metadata_dataset zero_stage offload_optimizer offload_param zero_hpz_partition_size
    """
)

#: `TokenizerConfig`, which both read beside their own, of
#: https://github.com/allenai/open-instruct/blob/29e5ad10525ff5df6c161520aa973be5f695359c/open_instruct/dataset_transformation.py
TOKENIZER = _names(
    """
    tokenizer_name_or_path tokenizer_revision trust_remote_code use_fast chat_template_name add_bos get_tokenizer_fn
    tokenizer_files_hash use_slow_tokenizer tokenizer_name ground_truths_key sft_messages_key
    """
)

#: Some of its `CHAT_TEMPLATES`, in the same file: a name that is none of them stands for the tokenizer's own template.
TEMPLATES = _names(
    """
    simple_concat_with_space simple_concat_with_new_line simple_chat assistant_message_only zephyr olmo tulu tulu_thinker
    tulu_thinker_r1_style olmo_thinker
    """
)
